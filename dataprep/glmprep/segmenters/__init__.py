"""Where a long conversation is cut: plug-ins that choose among its legal boundaries."""
