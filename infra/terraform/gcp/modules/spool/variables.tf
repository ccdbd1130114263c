variable "project" {
  description = "The project."
  type        = string
}

variable "region" {
  description = "The bucket's location."
  type        = string
}

variable "name" {
  description = "The prefix of names."
  type        = string
}

variable "prefix" {
  description = "The prefix of keys, without a slash at the end."
  type        = string
}

variable "ephemeral" {
  description = "True if destroying may delete mail."
  type        = bool
  default     = false
}

variable "kms_key" {
  description = "A key of Cloud KMS for the bucket, in the bucket's location; null for Google's own. The Cloud Storage service agent needs to be its encrypter and decrypter."
  type        = string
  default     = null
}

variable "labels" {
  description = "Labels of everything that takes labels."
  type        = map(string)
  default     = {}
}
