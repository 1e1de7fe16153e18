"""What an export is made of: signatures, versions, files for a server."""
