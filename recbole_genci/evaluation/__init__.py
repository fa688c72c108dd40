"""What is measured beyond RecBole's metrics."""
