"""Comparisons with libraries that need torchvision or are large: each runs only where its library is installed."""
