"""Train and evaluate models: python run_recbole_genci.py --model=GenCI --dataset=ml-100k [--key=value ...]"""

from recbole_genci.quick_start import command

if __name__ == "__main__":
    command()
