variable "name" {
  description = "The prefix of names."
  type        = string
}


variable "prefix" {
  description = "The prefix of keys: empty, or a path that ends in a slash."
  type        = string
  default     = ""
}

variable "kms" {
  description = "True if KMS encrypts, instead of S3 itself."
  type        = bool
  default     = false
}

variable "kms_key_id" {
  description = "The ARN of an existing key; without it a key is made."
  type        = string
  default     = null
}

variable "bucket_key" {
  description = "True if an S3 Bucket Key saves calls to KMS."
  type        = bool
  default     = true
}

variable "writer_role_arn" {
  description = "The listener's role: its uploads may never replace a mail."
  type        = string
}

variable "ephemeral" {
  description = "True if destroying may delete unfinished mail: for tests."
  type        = bool
  default     = false
}
