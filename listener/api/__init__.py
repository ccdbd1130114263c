"""What a filter sees and answers: sessions, transactions, decisions, and the interface itself."""
