"""IPFS without a daemon: names, trees and stores of blocks. Every block is re-hashed when read."""
