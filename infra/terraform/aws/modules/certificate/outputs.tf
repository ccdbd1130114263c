output "stored" {
  description = "Known when the secret holds the certificate."
  value       = aws_lambda_invocation.stored.id
}
