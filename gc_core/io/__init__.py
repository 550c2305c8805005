"""Bytes under URLs, and what small objects are made of: the floor that all stored data stands on."""
