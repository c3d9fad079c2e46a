"""The load: a publisher process and a viewers process, both raw enough not to be what is measured."""
