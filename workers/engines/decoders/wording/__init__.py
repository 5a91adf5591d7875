"""How a decoder is spoken to: which tokens chat messages and prompts are, so that no text of a user is read as a control token."""
