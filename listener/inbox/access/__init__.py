"""Who may look into the inbox: names of the server, pages of other sites, logins."""
