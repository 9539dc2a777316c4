"""Bytes in bulk: series from the archive to disk, files to Qure.ai and DICOMweb servers, results back.

`mirror.download_many` and `download.download_series` fetch, `scan.find_dicom` finds what to send, `upload.upload_to_qure` and
`stow.store_to_dicomweb` send it, `results.fetch_results` and `fetch_many` bring back what was found. Every one of them may be killed at
any moment and called again. Every request goes through `core.ApiClient`; nothing here knows of MCP or the command line.
"""
