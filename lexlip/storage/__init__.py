"""Storage: files, generations, and stores of vectors that survive a kill."""
