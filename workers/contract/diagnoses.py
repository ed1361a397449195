"""The files of a dataset's newest diagnosis among the blobs, for the worker that writes them and the gateway.

    datasets/ID/diagnosis/report.json   all that was found, written last
    datasets/ID/diagnosis/page.html     the same for people

They go with the dataset. Each appears whole or not at all.
"""

REPORT, PAGE = "report.json", "page.html"


def diagnosis_key(dataset_id: str, name: str) -> str:
    return f"datasets/{dataset_id}/diagnosis/{name}"
