output "queue_url" {
  description = "The queue that uploads notify."
  value       = aws_sqs_queue.doorbells.url
}

output "dead_letter_queue_url" {
  description = "The queue for notifications whose run crashed over and over."
  value       = aws_sqs_queue.dead_letters.url
}

output "function" {
  description = "The function's name."
  value       = aws_lambda_function.this.function_name
}

output "function_arn" {
  description = "The function's ARN, known when it is deployed."
  value       = aws_lambda_function.this.arn
}

output "log_group" {
  description = "The function's log group."
  value       = aws_cloudwatch_log_group.function.name
}
