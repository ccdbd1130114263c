output "endpoint" {
  description = "The load balancer's name."
  value       = aws_lb.this.dns_name
}

output "role_arn" {
  description = "The tasks' role."
  value       = aws_iam_role.task.arn
}
