output "vpc_id" {
  description = "The network."
  value       = aws_vpc.this.id
}

output "cidr" {
  description = "Its addresses."
  value       = var.cidr
}

output "subnet_ids" {
  description = "Its public subnets."
  value       = aws_subnet.public[*].id
}
