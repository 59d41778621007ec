"""The command line, `l0gate`. The extra `cli` installs its dependencies.

In reading order:

- `_app`: the program; it collects the commands, and turns errors into exit codes
- `commands`: one module per command: `train`, `report`, `sample`, `export`,
  `backends`, `methods`, `formats`
- `_options`: the options of a job, checked, and the net, pruner and task made from them
- `_text`: texts as sequences of tokens, and their vocabulary
- `_batches`: the tokens of a text as parallel streams, cut into chunks
- `_job`: the job of `train`: train the teacher and the gated net, shrink, certify, save, compare,
  measure, report
- `_training`: the training loop
- `_adam`: the optimizer
- `_signals`: Ctrl-C and kill end the training after the current step
- `_checkpoint`: a job's state in one file, to resume it from
- `_folders`: the folders that runs are written to, and the names of the files in them
- `_speed`: speed of the small net against the dense one
- `_report_data`: the figures of a finished job
- `_report_file`: report.json and report.png, written and read
- `_report_text`: the table of the figures, and sentences about them
- `_report_picture`: the curves of the training, and the neurons that were kept
- `_screen`: a progress bar in a terminal, lines of text elsewhere
- `_listing`: the tables of installed backends, methods and formats
"""
