"""The run of `scripts/train.py` without arguments, with scikit-learn: the network, batches and epochs."""

from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler

x, y = load_digits(return_X_y=True)
x, x_test, y, y_test = train_test_split(x, y, test_size=0.2, stratify=y, random_state=0)
x, x_validation, y, y_validation = train_test_split(x, y, test_size=0.125, stratify=y, random_state=0)
scaler = StandardScaler().fit(x)

# Adam without the decay of the weights, which scikit-learn does not offer beside it.
net = MLPClassifier((256,), batch_size=32, max_iter=100, n_iter_no_change=100, tol=0, random_state=0)
net.fit(scaler.transform(x), y)
print(f"validation accuracy {100 * net.score(scaler.transform(x_validation), y_validation):.2f}%")
print(f"test accuracy {100 * net.score(scaler.transform(x_test), y_test):.2f}%")
