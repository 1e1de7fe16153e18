"""What the apps share: flags, and how a mistake of the user ends."""
