"""DNS for mail authentication: questions, answers, a cache, and the names of clients."""
