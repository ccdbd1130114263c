"""TLS of the SMTP server: certificates, handshakes, and the layer over the transport."""
