variable "project" {
  description = "The project."
  type        = string
}

variable "region" {
  description = "The bucket's location."
  type        = string
}

variable "name" {
  description = "What names begin with."
  type        = string
}

variable "prefix" {
  description = "What keys begin with, without a slash at the end."
  type        = string
}

variable "ephemeral" {
  description = "Whether destroying may take mail with it."
  type        = bool
  default     = false
}

variable "kms_key" {
  description = "A key of Cloud KMS for the bucket, in the bucket's location; null for Google's own. The Cloud Storage service agent needs to be its encrypter and decrypter."
  type        = string
  default     = null
}
