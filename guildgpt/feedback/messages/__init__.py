"""What was said: conversations, chats, stored responses, reports, deliveries on Discord."""
