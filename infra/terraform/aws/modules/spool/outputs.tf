output "bucket" {
  description = "The bucket's name."
  value       = aws_s3_bucket.this.id
}

output "bucket_arn" {
  description = "The bucket's ARN."
  value       = aws_s3_bucket.this.arn
}

output "key_arn" {
  description = "The key that encrypts, null if S3 encrypts itself."
  value       = local.key_arn
}
