"""The sections of the report: one file each, in the order and with the words of the flow."""
