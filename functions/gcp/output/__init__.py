"""The output `gcp`: store to Cloud Storage, publish to Pub/Sub."""
