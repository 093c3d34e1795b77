"""What a batch leaves behind when something fails around it, and what a proxy in front sees."""
