"""File names in a run's folder, ``saved/<model>-<dataset>-<time>``. No other module spells them."""

CONFIG_FILE = "config.yaml"  # the final configuration, which a later run can read
DATA_FILE = "data.safetensors"  # rows, features and vocabularies of the three parts
SEMANTIC_ID_FOLDER = "semantic_ids"  # the artifact, if the model reads semantic IDs
LOG_FILE = "run.log"
TENSORBOARD_FOLDER = "tensorboard"
WANDB_ID_FILE = "wandb_id.txt"  # the W&B run that continues if this one is resumed or tested
MLFLOW_ID_FILE = "mlflow_id.txt"  # and the MLflow run
TRACKED_FILE = "tracked.json"  # the last epochs that programs of `track` were told
STATE_FILE = "training.safetensors"  # the state of an unfinished run, from which it can resume
WEIGHTS_FILE = "model.safetensors"  # weights of the best validation epoch
NEXT_WEIGHTS_FILE = "model.next.safetensors"  # better ones, until the training state knows them
TEACHER_FOLDER = "teacher"  # weights of the model that `sr_base: pretrained` trains first
DIAGNOSTICS_FILE = "diagnostics.json"  # generator diagnostics, if `diagnostic_rows` is not 0
METRICS_FILE = "metrics.json"  # written last: a run that has it has finished
HUB_FILE = "hub.json"  # only on the Hugging Face hub: what was pushed, with digests
