"""What a collection is turned into for people and other programs: tables, plots, the interactive map, the report."""
