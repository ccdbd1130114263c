"""The output `aws`: store to S3, send to SQS, send through SES."""
