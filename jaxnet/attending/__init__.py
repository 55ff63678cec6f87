"""What `attention` is made of: heads, who looks at whom, and attention in blocks of positions."""
