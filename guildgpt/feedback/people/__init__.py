"""Who is known: members, accounts of the web page, keys of the API, guilds and channels."""
