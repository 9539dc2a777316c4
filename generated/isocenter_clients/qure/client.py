"""Qure.ai Platform API: a typed client, asynchronous and blocking.

Generated from openapi/qure.yaml by `isocenter generate`. Do not edit: change the specification and generate again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import AwareDatetime

from isocenter.core import AsyncApi, Result, SyncApi
from isocenter.core.api import UNSET, FileInput, Shape, Unset
from isocenter.core.client import Progress

from . import models
from .contract import load

__all__ = ["QureClient", "QureSyncClient"]

_UPLOAD_STUDIES: Shape[models.UploadStudiesResponse] = Shape(lambda: models.UploadStudiesResponse)
_START_COMPUTATION: Shape[models.ComputationStarted | None] = Shape(lambda: models.ComputationStarted | None, {'200': lambda: models.ComputationStarted, '304': lambda: None})
_GET_RESULTS: Shape[models.CtResults | models.HeadCtResults | models.XrayResults | models.OtherResults | models.ResultsPending] = Shape(lambda: models.CtResults | models.HeadCtResults | models.XrayResults | models.OtherResults | models.ResultsPending, {'200': lambda: models.CtResults | models.HeadCtResults | models.XrayResults | models.OtherResults, '202': lambda: models.ResultsPending})
_GET_RESULTS_V2: Shape[models.XrayResults | models.OtherResults | models.XrayResultsPending | models.InvalidXrayResults] = Shape(lambda: models.XrayResults | models.OtherResults | models.XrayResultsPending | models.InvalidXrayResults, {'200': lambda: models.XrayResults | models.OtherResults, '202': lambda: models.XrayResultsPending, '206': lambda: models.InvalidXrayResults})


class QureClient(AsyncApi):
    """Qure.ai Platform API.

    Asynchronous; a context manager. Every call is checked against the contract, both ways.
    """

    contract = staticmethod(load)

    async def upload_studies(
        self,
        *,
        files: Sequence[FileInput],
        content_type: Literal['multipart/form-data', 'multipart/related'] | None = None,
    ) -> Result[models.UploadStudiesResponse]:
        """Upload DICOM files.

        Sends DICOM files of one or more series. They leave the local site and cannot be withdrawn through the
        API, so send only what the workspace is entitled to hold.

        Send at most 100 files in one request and call again for the rest; all parts of one series may arrive in
        any number of requests. Part names are `file_0`, `file_1` and so on, the file name of a part is its
        number with `.dcm`: names and folders of the local disk are never sent, since they often hold patient
        names.

        `multipart/form-data` is the current form and the default. `multipart/related` is the form of the older
        upload page and of DICOMweb servers; its Content-Type is `multipart/related; type="application/dicom";
        boundary=...` and every part still carries `Content-Disposition: form-data` with a name, without which
        the receiver drops the part.

        Args:
            files: DICOM files (Part 10), one part each. 1 to 100 of them; the provider publishes no limit, 100
                is what a server of this kind takes by default.
        """
        return await self._call(
            "uploadStudies",
            {"files": files, "content_type": content_type},
            _UPLOAD_STUDIES,
        )

    async def start_computation(
        self,
        *,
        series_instance_uid: str,
        recompute: bool | None = None,
    ) -> Result[models.ComputationStarted | None]:
        """Start the analysis of a CT series.

        Puts an uploaded CT series into the queue for analysis. Although it is a GET it changes the server: it
        must not be prefetched or cached. Call it once all files of the series are uploaded, and when
        `getResults` answers 409.

        Without `recompute` no body is sent at all. With it the request carries a small JSON body, which is
        unusual for a GET.

        Two answers mean that the analysis is under way: 200 (queued now) and 304 (was queued before).

        Args:
            series_instance_uid: SeriesInstanceUID of the uploaded series, as `uploadStudies` answered it.
            recompute: True to analyse again a series that was analysed before.
        """
        return await self._call(
            "startComputation",
            {"SeriesInstanceUID": series_instance_uid, "recompute": recompute},
            _START_COMPUTATION,
        )

    async def get_results(
        self,
        *,
        uid: str,
    ) -> Result[models.CtResults | models.HeadCtResults | models.XrayResults | models.OtherResults | models.ResultsPending]:
        """Fetch the results of a CT series.

        Answers the result of one uploaded CT series: chest CT (`usecase` qct) or head CT (`usecase` qer). It
        also takes the SOPInstanceUID of an X-ray, but that use is deprecated in favour of `getResultsV2`.

        * 200: finished. Download the files at once: their URLs expire 15 minutes after the answer. * 202: not
        finished. Wait 2 seconds, later up to 30, and call again. * 409: the analysis was never started. Call
        `startComputation`, then call again. * 404: not uploaded, or uploaded within the last minute and not
        registered yet.

        Args:
            uid: SeriesInstanceUID of a CT series, or (deprecated) SOPInstanceUID of an X-ray.
        """
        return await self._call(
            "getResults",
            {"uid": uid},
            _GET_RESULTS,
        )

    async def get_results_v2(
        self,
        *,
        sop_instance_uid: str,
    ) -> Result[models.XrayResults | models.OtherResults | models.XrayResultsPending | models.InvalidXrayResults]:
        """Fetch the results of an X-ray.

        Answers the result of one uploaded X-ray image. X-rays are analysed without `startComputation`.

        * 200: finished. Download the files at once: their URLs expire 15 minutes after the answer. * 202: not
        started or not finished. Wait 2 seconds, later up to 30, and call again. * 206: the image is an X-ray,
        but no valid one to analyse. The files say so. It has nothing to do with byte ranges. * 500, 502: call
        again later.

        Decide by the status only; the property `success` means nothing here.

        Args:
            sop_instance_uid: SOPInstanceUID of the uploaded X-ray image.
        """
        return await self._call(
            "getResultsV2",
            {"SOPInstanceUID": sop_instance_uid},
            _GET_RESULTS_V2,
        )


class QureSyncClient(SyncApi):
    """Qure.ai Platform API.

    Blocking; a context manager. Every call is checked against the contract, both ways.
    """

    contract = staticmethod(load)

    def upload_studies(
        self,
        *,
        files: Sequence[FileInput],
        content_type: Literal['multipart/form-data', 'multipart/related'] | None = None,
    ) -> Result[models.UploadStudiesResponse]:
        """Upload DICOM files.

        Sends DICOM files of one or more series. They leave the local site and cannot be withdrawn through the
        API, so send only what the workspace is entitled to hold.

        Send at most 100 files in one request and call again for the rest; all parts of one series may arrive in
        any number of requests. Part names are `file_0`, `file_1` and so on, the file name of a part is its
        number with `.dcm`: names and folders of the local disk are never sent, since they often hold patient
        names.

        `multipart/form-data` is the current form and the default. `multipart/related` is the form of the older
        upload page and of DICOMweb servers; its Content-Type is `multipart/related; type="application/dicom";
        boundary=...` and every part still carries `Content-Disposition: form-data` with a name, without which
        the receiver drops the part.

        Args:
            files: DICOM files (Part 10), one part each. 1 to 100 of them; the provider publishes no limit, 100
                is what a server of this kind takes by default.
        """
        return self._call(
            "uploadStudies",
            {"files": files, "content_type": content_type},
            _UPLOAD_STUDIES,
        )

    def start_computation(
        self,
        *,
        series_instance_uid: str,
        recompute: bool | None = None,
    ) -> Result[models.ComputationStarted | None]:
        """Start the analysis of a CT series.

        Puts an uploaded CT series into the queue for analysis. Although it is a GET it changes the server: it
        must not be prefetched or cached. Call it once all files of the series are uploaded, and when
        `getResults` answers 409.

        Without `recompute` no body is sent at all. With it the request carries a small JSON body, which is
        unusual for a GET.

        Two answers mean that the analysis is under way: 200 (queued now) and 304 (was queued before).

        Args:
            series_instance_uid: SeriesInstanceUID of the uploaded series, as `uploadStudies` answered it.
            recompute: True to analyse again a series that was analysed before.
        """
        return self._call(
            "startComputation",
            {"SeriesInstanceUID": series_instance_uid, "recompute": recompute},
            _START_COMPUTATION,
        )

    def get_results(
        self,
        *,
        uid: str,
    ) -> Result[models.CtResults | models.HeadCtResults | models.XrayResults | models.OtherResults | models.ResultsPending]:
        """Fetch the results of a CT series.

        Answers the result of one uploaded CT series: chest CT (`usecase` qct) or head CT (`usecase` qer). It
        also takes the SOPInstanceUID of an X-ray, but that use is deprecated in favour of `getResultsV2`.

        * 200: finished. Download the files at once: their URLs expire 15 minutes after the answer. * 202: not
        finished. Wait 2 seconds, later up to 30, and call again. * 409: the analysis was never started. Call
        `startComputation`, then call again. * 404: not uploaded, or uploaded within the last minute and not
        registered yet.

        Args:
            uid: SeriesInstanceUID of a CT series, or (deprecated) SOPInstanceUID of an X-ray.
        """
        return self._call(
            "getResults",
            {"uid": uid},
            _GET_RESULTS,
        )

    def get_results_v2(
        self,
        *,
        sop_instance_uid: str,
    ) -> Result[models.XrayResults | models.OtherResults | models.XrayResultsPending | models.InvalidXrayResults]:
        """Fetch the results of an X-ray.

        Answers the result of one uploaded X-ray image. X-rays are analysed without `startComputation`.

        * 200: finished. Download the files at once: their URLs expire 15 minutes after the answer. * 202: not
        started or not finished. Wait 2 seconds, later up to 30, and call again. * 206: the image is an X-ray,
        but no valid one to analyse. The files say so. It has nothing to do with byte ranges. * 500, 502: call
        again later.

        Decide by the status only; the property `success` means nothing here.

        Args:
            sop_instance_uid: SOPInstanceUID of the uploaded X-ray image.
        """
        return self._call(
            "getResultsV2",
            {"SOPInstanceUID": sop_instance_uid},
            _GET_RESULTS_V2,
        )
