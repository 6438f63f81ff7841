"""The web page: chats, votes and what the operator looks after, for people with a browser."""
