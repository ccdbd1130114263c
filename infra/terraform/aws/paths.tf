# Terraform keeps the path of the function's zip in its state. Relative to the root module it is the same in every
# checkout, so a deployment from a laptop and one from CI differ only if the zip does.

locals {
  here  = split("/", abspath(path.root))
  there = split("/", abspath(var.build))
  # How many folders, from the top, both paths share.
  shared = length([
    for at in range(min(length(local.here), length(local.there))) : at
    if slice(local.here, 0, at + 1) == slice(local.there, 0, at + 1)
  ])
  up    = [for each in slice(local.here, local.shared, length(local.here)) : ".."]
  build = coalesce(join("/", concat(local.up, slice(local.there, local.shared, length(local.there)))), ".")
}
