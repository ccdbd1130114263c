variable "project" {
  description = "The project."
  type        = string
}

variable "region" {
  description = "The subnetwork's region."
  type        = string
}

variable "name" {
  description = "The name of a network that is made."
  type        = string
}

variable "network" {
  description = "An existing network, its name or self link; null makes one."
  type        = string
}

variable "subnetwork" {
  description = "A subnetwork of it, its name or self link; null for the network's name, as in networks in auto mode."
  type        = string
}

variable "cidr" {
  description = "The addresses of a network that is made."
  type        = string
}

variable "private" {
  description = "True if only applications of a network are clients, so a network of its own would have none."
  type        = bool
}

variable "nat" {
  description = "True for Cloud NAT."
  type        = bool
}
