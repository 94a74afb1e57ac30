"""What devices, render servers and supervisors say to each other: messages, records, errors. No I/O."""
