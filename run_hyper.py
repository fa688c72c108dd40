"""Tune a model: python run_hyper.py --model=GenCI --dataset=ml-100k --params_file=hyper.test"""

if __name__ == "__main__":
    from recbole_genci.cli import tune

    tune()
