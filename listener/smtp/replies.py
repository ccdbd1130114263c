"""The replies of commands and connections. Replies about a mail's content are beside the code that
finds the fault: `listener.intake.capture`, `listener.intake.accept`, `listener.smtp.data`."""

from __future__ import annotations

from typing import Final

from listener.api.decision import Reply

# The end of a connection.
TOO_MANY_ERRORS: Final = Reply(421, "4.7.0", "Too many errors, closing the connection")
TOO_MANY_REFUSED: Final = Reply(421, "4.7.0", "Too many refused recipients, closing the connection")
TOO_MUCH_CHATTER: Final = Reply(421, "4.7.0", "Too many commands without a mail, closing the connection")
TOO_MANY_MESSAGES: Final = Reply(421, "4.7.0", "Too many messages on this connection")
TIMED_OUT: Final = Reply(421, "4.4.2", "Timed out waiting for you, closing the connection")
TOO_SLOW: Final = Reply(421, "4.4.2", "Data comes in too slowly, closing the connection")
TOO_LONG: Final = Reply(421, "4.4.2", "The mail takes too long, closing the connection")
NO_ROOM: Final = Reply(421, "4.3.1", "Insufficient system storage, closing the connection")
SHUTTING_DOWN: Final = Reply(421, "4.3.2", "Service is shutting down, try again later")
RECONFIGURED: Final = Reply(421, "4.3.2", "The configuration has changed, connect again")
CONNECT_FAULT: Final = Reply(421, "4.3.0", "Local error, try again later")
FULL: Final = Reply(421, "4.7.0", "Too many connections, try again later")
FULL_FOR_ADDRESS: Final = Reply(421, "4.7.0", "Too many connections from your address, try again later")
TOO_OFTEN: Final = Reply(421, "4.7.0", "Too many connections a minute from your address, try again later")
LINE_TOO_LONG: Final = Reply(500, "5.5.2", "Line too long")
AUTH_LINE_TOO_LONG: Final = Reply(500, "5.5.6", "Authentication exchange line is too long")  # RFC 4954 4
NOT_HTTP: Final = Reply(554, "5.5.1", "This is an SMTP server")
EARLY_TALKER: Final = Reply(554, "5.5.1", "You spoke before the greeting")
GOODBYE: Final = Reply(221, "2.0.0", "Bye")

# Any command.
OK: Final = Reply(250, "2.0.0", "OK")
FAULT: Final = Reply(451, "4.3.0", "Local error in processing, try again later")
BAD_COMMAND: Final = Reply(500, "5.5.1", "Command not recognised")
DISABLED: Final = Reply(502, "5.5.1", "Command not offered here")
NO_ARGUMENT: Final = Reply(501, "5.5.4", "This command takes no argument")
WANTS_ARGUMENT: Final = Reply(501, "5.5.4", "This command needs an argument")
CONTROL_CHARACTERS: Final = Reply(501, "5.5.4", "Control characters in the argument")
NOT_TEXT: Final = Reply(501, "5.5.4", "The argument is neither ASCII nor UTF-8")
NO_HELO: Final = Reply(503, "5.5.1", "Send HELO or EHLO first")

# MAIL, RCPT, DATA and the small commands.
BAD_HELO: Final = Reply(501, "5.5.4", "Syntax: HELO hostname")
BAD_EHLO: Final = Reply(501, "5.5.4", "Syntax: EHLO hostname")
SENDER_OK: Final = Reply(250, "2.1.0", "Sender OK")
RECIPIENT_OK: Final = Reply(250, "2.1.5", "Recipient OK")
GO_AHEAD: Final = Reply(354, "", "End data with <CR><LF>.<CR><LF>")
MAYBE: Final = Reply(252, "2.5.2", "Cannot VRFY user, but will accept the message and attempt delivery")
NO_EXPN: Final = Reply(502, "5.5.1", "EXPN is not offered")
NO_MAIL: Final = Reply(503, "5.5.1", "Send MAIL first")
NO_RCPT: Final = Reply(503, "5.5.1", "Send RCPT first")
NO_VALID_RCPT: Final = Reply(554, "5.5.1", "No valid recipients")
NESTED: Final = Reply(503, "5.5.1", "A mail is already begun; send RSET to give it up")
BAD_MAIL: Final = Reply(501, "5.5.4", "Syntax: MAIL FROM:<address> [parameters]")
BAD_RCPT: Final = Reply(501, "5.5.4", "Syntax: RCPT TO:<address> [parameters]")
BAD_SENDER: Final = Reply(501, "5.1.7", "Bad sender address syntax")
BAD_RECIPIENT: Final = Reply(501, "5.1.3", "Bad recipient address syntax")
TOO_MANY_RECIPIENTS: Final = Reply(452, "4.5.3", "Too many recipients")
NEEDS_UTF8: Final = Reply(553, "5.6.7", "Non-ASCII addresses need SMTPUTF8")
TOO_BIG: Final = Reply(552, "5.3.4", "Message size exceeds the limit")

# STARTTLS.
TLS_READY: Final = Reply(220, "2.0.0", "Ready to start TLS")
TLS_ACTIVE: Final = Reply(503, "5.5.1", "TLS is already active")
NO_TLS: Final = Reply(454, "4.7.0", "TLS is not available due to a temporary reason")
TLS_PIPELINED: Final = Reply(554, "5.5.1", "Nothing may follow STARTTLS before the handshake")

# AUTH.
AUTHENTICATED: Final = Reply(235, "2.7.0", "Authentication successful")
AUTH_CANCELLED: Final = Reply(501, "5.7.0", "Authentication cancelled")
NOT_BASE64: Final = Reply(501, "5.5.2", "Not valid base64")
NOT_AUTHORIZED: Final = Reply(535, "5.7.8", "Authentication credentials invalid")
BAD_CREDENTIALS: Final = Reply(501, "5.5.2", "Malformed credentials")
TOO_MANY_FAILURES: Final = Reply(421, "4.7.0", "Too many failed authentications, closing the connection")
TOO_MANY_GUESSES: Final = Reply(
    421, "4.7.0", "Too many failed authentications from your address, try again later"
)
NEEDS_TLS: Final = Reply(538, "5.7.11", "Encryption required for authentication")
UNKNOWN_MECHANISM: Final = Reply(504, "5.5.4", "Unrecognized authentication mechanism")
SERVER_FIRST: Final = Reply(501, "5.7.0", "This mechanism takes no initial response")  # RFC 4954 section 4
ALREADY_AUTHENTICATED: Final = Reply(503, "5.5.1", "Already authenticated")
AUTH_IN_MAIL: Final = Reply(503, "5.5.1", "AUTH is not permitted during a mail transaction")
BAD_AUTH: Final = Reply(501, "5.5.4", "Syntax: AUTH mechanism [initial-response]")

# XCLIENT and XFORWARD.
NOT_TRUSTED: Final = Reply(550, "5.7.0", "You may not speak for others")
IN_MAIL: Final = Reply(503, "5.5.1", "Not permitted during a mail transaction")
NO_ATTRIBUTE: Final = Reply(501, "5.5.4", "Syntax: attribute=value ...")
