"""One file per verb that joins the parts: what the command line and Python call."""
