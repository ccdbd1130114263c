"""The filter `respond`: scripted answers for tests of clients."""
