"""The inbox: stored mails for developers to look at, over an index that is made from the folders."""
