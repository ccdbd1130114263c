variable "name" {
  description = "What names begin with."
  type        = string
}


variable "prefix" {
  description = "What keys begin with: empty, or a path that ends in a slash."
  type        = string
  default     = ""
}

variable "kms" {
  description = "Whether KMS encrypts, instead of S3 itself."
  type        = bool
  default     = false
}

variable "kms_key_id" {
  description = "The key's ARN, where it is there already; otherwise one is made."
  type        = string
  default     = null
}

variable "bucket_key" {
  description = "Whether an S3 Bucket Key saves calls to KMS."
  type        = bool
  default     = true
}

variable "writer_role_arn" {
  description = "The listener's role: its uploads may never replace a mail."
  type        = string
}

variable "ephemeral" {
  description = "Whether destroying may take unfinished mail with it: for tests."
  type        = bool
  default     = false
}
