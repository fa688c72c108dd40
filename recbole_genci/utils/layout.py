"""The names of what lies in a run's folder, ``saved/<model>-<dataset>-<time>``; no other module
spells them.
"""

CONFIG_FILE = "config.yaml"  # the final configuration, as a later run reads it
DATA_FILE = "data.safetensors"  # rows, features and vocabularies of the three parts
SEMANTIC_ID_FOLDER = "semantic_ids"  # the artifact, where the model reads it
LOG_FILE = "run.log"
TENSORBOARD_FOLDER = "tensorboard"
STATE_FILE = "training.pt"  # of a run that has not finished: all that its next epoch depends on
WEIGHTS_FILE = "model.safetensors"  # of the best validation epoch
TEACHER_FOLDER = "teacher"  # weights of the model that `sr_base: pretrained` trains first
DIAGNOSTICS_FILE = "diagnostics.json"  # of the generator, where `diagnostic_rows` asks for them
METRICS_FILE = "metrics.json"  # written last: a run that has it has finished
