"""Train and evaluate models: python run_recbole_genci.py --model=GenCI --dataset=ml-100k"""

if __name__ == "__main__":  # processes that train together import this file, and need nothing of it
    from recbole_genci.cli import train

    train()
