"""AWS: the Lambda handler and the outputs that need its SDK."""
