"""Takes a mail into the spool: capture, trace fields, envelope, storage, reply."""
