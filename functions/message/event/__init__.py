"""The event about a mail: a CloudEvent, or the notification that SES sends."""
