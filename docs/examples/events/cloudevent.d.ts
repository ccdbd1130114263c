// Made by scripts/event_examples.py from cloudevent.schema.json: do not edit.

/** The CloudEvent of a mail. */
export interface MailEvent {
  /** The version of CloudEvents. */
  specversion: "1.0";
  /** The kind of event. Later versions of the relay only add to it. */
  type: "com.loopingz.smtp-relay.v2";
  /** The listener's local address. */
  source: string;
  /** The mail's id, the same in every retry. */
  id: string;
  /** When the mail was received. */
  time: string;
  /** The media type of `data`. */
  datacontenttype: "application/json";
  /** The schema of `data`. */
  dataschema: "urn:smtp-relay:v2:cloudevent.schema.json#/$defs/EventData";
  /** The Message-ID. */
  subject?: string;
  /** The mail. */
  data: EventData;
}

/** The mailboxes of one field. */
export interface EventAddresses {
  /** The mailboxes in the order of the mail. */
  value: EventMailbox[];
  /** The same as HTML. */
  html: string;
  /** The same as text. */
  text: string;
}

/** The closest alignments of identifiers that passed. */
export interface EventAlignment {
  /** By SPF. */
  spf: "none" | "relaxed" | "strict";
  /** By DKIM. */
  dkim: "none" | "relaxed" | "strict";
}

/** ARC (RFC 8617). */
export interface EventArc {
  /** The result in the words of RFC 8601. */
  result: string;
  /** The reason in words. */
  comment?: string;
  /** Length of the chain. */
  instances?: number;
  /** The domain of the last seal. */
  domain?: string;
  /** The selector of the last seal's key. */
  selector?: string;
  /** The oldest instance whose signature still verifies; 0 for all. */
  oldestPass?: number;
}

/** One part of the mail that is not one of its texts. */
export interface EventAttachment {
  /** The sender's name for it, or a name made from the content type. Not safe as a path. */
  filename: string;
  /** Size of the decoded content in bytes. */
  size: number;
  /** The media type in lower case, without parameters. */
  contentType?: string;
  /** The Content-ID with its angle brackets; HTML refers to it as `cid:`. */
  contentId?: string;
  /** Mostly `attachment` or `inline`. */
  disposition?: string;
  /** SHA-256 of the decoded content. */
  sha256: string;
  /** The object with the decoded content, if the same output stored it. */
  url?: string;
}

/** The results of the flow's `mail-auth` filter. */
export interface EventAuth {
  /** SPF. */
  spf?: EventSpf;
  /** DKIM. */
  dkim?: EventDkim;
  /** DMARC. */
  dmarc?: EventDmarc;
  /** ARC. */
  arc?: EventArc;
}

/** One field of `data` of which only a part is shown. */
export interface EventCut {
  /** The field's place below `data`, such as `email.text`. */
  field: string;
  /** The unit of both counts. */
  unit: "characters" | "items";
  /** How many are shown. The values of one field that are cut add up. */
  kept: number;
  /** How many the mail has. */
  total: number;
  /** True if the mail has more than the relay reads; `total` counts what it read. */
  atLeast: boolean;
}

/** The mail. */
export interface EventData {
  /** The flow that took the mail. */
  flow: string;
  /** Size of the mail in bytes. */
  size: number;
  /** The SMTP envelope. */
  envelope: EventEnvelope;
  /** The mail as its header and its bodies tell it. */
  email: EventEmail;
  /** The connection that the mail came over. */
  server: EventServer;
  /** What is not shown in full, and where the whole mail is. */
  truncated: EventTruncation;
  /** The stored object, if the same output stored the mail. */
  storage?: EventStorage;
  /** The results of the flow's `mail-auth` filter, if it has one. */
  auth?: EventAuth;
}

/** DKIM (RFC 6376). */
export interface EventDkim {
  /** The best result of all signatures. */
  result: string;
  /** The signatures that were checked. */
  signatures: EventSignature[];
  /** Signatures that were not checked, because the mail has too many. */
  ignored?: number;
}

/** DMARC (RFC 9989) of one author domain. */
export interface EventDmarc {
  /** The result in the words of RFC 8601. */
  result: string;
  /** The author domain. */
  domain?: string;
  /** The policy that applies: `none`, `quarantine` or `reject`. */
  policy?: string;
  /** The domain of the record. */
  policyDomain?: string;
  /** The organizational domain. */
  organizationalDomain?: string;
  /** The alignments by method. */
  alignment?: EventAlignment;
  /** True if the record is for tests. */
  testing?: boolean;
  /** True if the policy is that of the relay's configuration. */
  enforced?: boolean;
  /** The reason in words. */
  comment?: string;
  /** The results of further author domains. */
  others?: EventDmarc[];
}

/** The mail as its header and its bodies tell it. */
export interface EventEmail {
  /** The authors, else the reverse-path; missing if there is neither. */
  from?: EventAddresses;
  /** One object with all addresses, or none. Without a To field: the recipients of the flow. */
  to: EventAddresses[];
  /** One object with all addresses, or none. */
  cc: EventAddresses[];
  /** One object with all addresses, or none. Recipients of other flows are left out. */
  bcc: EventAddresses[];
  /** The addresses for replies, as text. */
  replyTo?: string;
  /** The subject, decoded. */
  subject?: string;
  /** From X-Priority, X-MSMail-Priority, Priority or Importance. */
  priority?: "high" | "normal" | "low";
  /** The Date field in UTC. */
  date?: string;
  /** The Message-ID with its angle brackets. */
  messageId?: string;
  /** The message ids of In-Reply-To, mostly one, separated by blanks. */
  inReplyTo?: string;
  /** The identifier of the mailing list (RFC 2919), without angle brackets. */
  listId?: string;
  /** The keyword of Auto-Submitted (RFC 3834): `auto-replied`, `auto-generated`, `no` … */
  autoSubmitted?: string;
  /** The message ids of References, the oldest first. */
  references: string[];
  /** All header fields in the order of the mail, without Bcc and without those of the relay. */
  headers: EventHeader[];
  /** Everything that is not text or HTML of the mail, in its order. */
  attachments: EventAttachment[];
  /** The text, made from the HTML if the mail has no text. */
  text?: string;
  /** The HTML. */
  html?: string;
  /** The text above the quoted mail, without the signature; missing where that is not sure. */
  replyText?: string;
}

/** The SMTP envelope. */
export interface EventEnvelope {
  /** The reverse-path; empty for the null sender. */
  from: string;
  /** The recipients that this flow took. */
  to: string[];
  /** The parameters of MAIL, such as `SIZE=1234` or `BODY=8BITMIME`. */
  parameters: string[];
}

/** One header field. */
export interface EventHeader {
  /** The name as the mail has it. */
  name: string;
  /** The value on one line, with its encoded words decoded. */
  value: string;
}

/** One mailbox. */
export interface EventMailbox {
  /** The address; empty where the mail has only a name. */
  address: string;
  /** The display name; empty where the mail has none. */
  name: string;
}

/** The connection that the mail came over. */
export interface EventServer {
  /** The client's verified name, else its address in brackets. */
  clientHostname: string;
  /** The client's address. */
  remoteAddress: string;
  /** The client's port. */
  remotePort: number;
  /** The name of HELO or EHLO. */
  hostNameAppearAs: string;
  /** The connection's id. */
  id: string;
  /** True if the connection used TLS. */
  secure: boolean;
  /** RFC 3848's word: ESMTP, ESMTPS, ESMTPSA … */
  transmissionType: string;
  /** The authenticated user; empty without AUTH. */
  username: string;
}

/** One DKIM signature (RFC 6376). */
export interface EventSignature {
  /** The result in the words of RFC 8601. */
  result: string;
  /** The reason in words. */
  comment?: string;
  /** The signing domain. */
  domain?: string;
  /** The key's selector. */
  selector?: string;
  /** The identity of the signer. */
  identity?: string;
  /** The algorithm, such as `rsa-sha256`. */
  algorithm?: string;
  /** The first characters of the signature (RFC 6008). */
  signature?: string;
  /** The canonicalization of header and body. */
  canonicalization?: string;
  /** Length of an RSA key. */
  keyBits?: number;
  /** True if the key is for tests. */
  testing?: boolean;
  /** Bytes of the body that the signature does not cover. */
  unsignedOctets?: number;
}

/** SPF (RFC 7208). */
export interface EventSpf {
  /** The result in the words of RFC 8601. */
  result: string;
  /** The domain that was checked. */
  domain?: string;
  /** `mailfrom` or `helo`. */
  identity?: string;
  /** The mechanism that matched. */
  mechanism?: string;
  /** The reason in words. */
  comment?: string;
  /** The domain's explanation of a failure. */
  explanation?: string;
  /** DNS lookups that the record took. */
  lookups?: number;
}

/** The object that the same output stored: the whole mail, if it stored that. */
export interface EventStorage {
  /** `s3://BUCKET/KEY` or `gs://BUCKET/KEY`. */
  url: string;
  /** The bucket. */
  bucket: string;
  /** The object's key. */
  key: string;
  /** The object's size in bytes, with the fields that `addRawHeaders` prepends. */
  size: number;
  /** SHA-256 of the object's bytes. */
  sha256: string;
  /** The URL of the manifest of a mail that is stored in parts. */
  manifest?: string;
  /** A URL by which the object can be read for a while (`presign` of `webhook`). */
  link?: string;
}

/** What is not shown in full. */
export interface EventTruncation {
  /** The fields that are cut; empty if the event shows everything. */
  fields: EventCut[];
  /** The URL of the whole mail, if the same output stored it. */
  rest?: string;
}
