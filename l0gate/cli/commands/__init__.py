"""The commands, one per module.

In reading order:

- `train`: train with gates, shrink, certify and measure
- `report`: print the table of a finished run again
- `sample`: write text with the small net of a run
- `backends`: list the installed backends, and check one with the conformance kit
- `export`: write nets as files of other programs, and read such files
- `formats`: list the file formats of other programs
- `methods`: list the installed ways to choose neurons
"""
