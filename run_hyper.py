"""Tune a model: python run_hyper.py --model=GenCI --dataset=ml-100k --params_file=hyper.test [--key=value ...]"""

from recbole_genci.tuning.command import command

if __name__ == "__main__":
    command()
