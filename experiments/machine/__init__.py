"""What runs need of the machine: files, this process, other hosts, and where numbers are from."""
