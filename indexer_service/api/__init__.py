"""The methods of the API and the conversion of their messages."""
