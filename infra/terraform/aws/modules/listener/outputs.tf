output "endpoint" {
  description = "The load balancer's name."
  value       = aws_lb.this.dns_name
}

output "endpoint_zone_id" {
  description = "The hosted zone of the load balancer's name, for alias records."
  value       = aws_lb.this.zone_id
}

output "log_group" {
  description = "The listener's log group."
  value       = aws_cloudwatch_log_group.this.name
}

output "role_arn" {
  description = "The tasks' role."
  value       = aws_iam_role.task.arn
}
